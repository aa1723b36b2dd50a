"""An exported model as an ONNX graph, and how it runs."""
