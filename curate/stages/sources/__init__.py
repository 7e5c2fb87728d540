"""Sources: stages that read records, and the partitioner that cuts records into batches."""
