"""The demo channel: a programme made on the spot, and a live HLS origin that plays it."""
