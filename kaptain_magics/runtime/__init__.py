"""What runs beside the user's code inside a job: metrics, export of the model, the script's launcher.

Standard library, and ``minio`` when something is stored in S3: so this folder can be laid into any image.
"""
