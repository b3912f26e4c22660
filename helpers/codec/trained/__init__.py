"""The trained codec: its network, its entropy model, streams of the range coder, pictures as bytes."""
