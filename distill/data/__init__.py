"""Images as uint8 arrays, batches, and the views of them that training sees.

`catalog` knows data sets without loading them, `load` brings them in, `draws` makes the
random numbers, `batches` cuts batches, `prepare` turns a batch into what the model eats.
"""
