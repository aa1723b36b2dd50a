"""Objectives: one LightningModule a file."""
