"""Where samples and pictures lie: Parquet files, folders, tar shards; and what identifies their rows."""
