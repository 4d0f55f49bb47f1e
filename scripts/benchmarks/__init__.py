"""The measurements that README.md and docs/ quote, one a file; each measures its baseline in the same run."""
