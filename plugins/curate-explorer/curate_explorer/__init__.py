"""`curate explore`: a local web app over the records of a run or of a manifest."""
