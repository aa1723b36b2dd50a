"""W&B's file of an offline run, read back."""

import json
import struct
import time
from collections import defaultdict

BLOCK, HEADER, IDENT = 32768, 7, 7  # of LevelDB's log format, and of W&B's file before it


def records(path):
    """The records of a .wandb file: LevelDB's log format around protocol buffers."""
    from wandb.proto import wandb_internal_pb2 as pb

    data, at, whole = path.read_bytes(), IDENT, b""
    assert data.startswith(b":W&B")
    while at + HEADER <= len(data):
        if (left := BLOCK - at % BLOCK) < HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        if at + HEADER + length > len(data):
            return  # still being written
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # full, last
            record = pb.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def values(items):
    """Values by key; those of media are dictionaries."""
    found = {}
    for item in items:
        first, *rest = item.nested_key or [item.key]
        if rest:
            found.setdefault(first, {})[rest[-1]] = json.loads(item.value_json)
        else:
            found[first] = json.loads(item.value_json)
    return found


class Offline:
    """A run as its file has it: history by key, summary, config, name, group, tags, artifacts."""

    def __init__(self, directory):
        [self.directory] = directory.glob("wandb/offline-run-*")
        [path] = self.directory.glob("*.wandb")
        self.history, self.summary, self.artifacts = defaultdict(list), {}, []
        # W&B's own process writes, and may still do so when finish() is back.
        deadline = time.monotonic() + 60
        while not any(r.WhichOneof("record_type") == "exit" for r in records(path)):
            assert time.monotonic() < deadline, f"{path} has no end"
            time.sleep(0.1)
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                for key, value in values(record.history.item).items():
                    self.history[key].append(value)
            elif kind == "summary":
                self.summary |= values(record.summary.update)
            elif kind == "run":
                self.name, self.group = record.run.display_name, record.run.run_group
                self.tags = list(record.run.tags)
            elif kind == "artifact":
                self.artifacts.append(record.artifact)

    def table(self, key):
        return json.loads((self.directory / "files" / self.history[key][-1]["path"]).read_text())
