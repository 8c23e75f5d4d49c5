"""The demo channel: a generated programme, and a live HLS origin that plays it."""
