"""The codec: its networks, its entropy model, and pictures as bytes."""
