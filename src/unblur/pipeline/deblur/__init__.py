"""A folder of pictures, frame by frame."""
