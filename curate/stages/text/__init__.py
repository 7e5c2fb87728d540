"""Text measures: stages that compare and measure transcripts."""
