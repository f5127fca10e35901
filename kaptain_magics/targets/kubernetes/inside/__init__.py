"""What runs in the pods themselves: single files of the standard library, laid into any image."""
