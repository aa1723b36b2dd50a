"""What task=mlm shows of the model while it is pretrained."""
