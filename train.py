"""Fine-tune an encoder: `python train.py GROUP=CHOICE KEY=VALUE`; `--help` lists every choice."""

from thaw.start import main

if __name__ == "__main__":
    main()
