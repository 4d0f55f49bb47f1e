"""The measurements that README.md and docs/ quote, one per file; each measures its baseline in the same run."""
