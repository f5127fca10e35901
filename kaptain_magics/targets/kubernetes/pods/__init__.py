"""What pods are given: their image, the packages it lacks, and the script or server with its files."""
