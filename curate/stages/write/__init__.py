"""Writers: stages that publish files."""
