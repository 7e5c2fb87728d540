"""What the driver and its workers exchange: messages, the transport, worker activity, run events, run options."""
