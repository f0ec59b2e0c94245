"""Images as uint8 arrays, batches, and the views of them that training sees.

Imports `spec` and `base`. `load` brings a data set in, `draws` makes the random numbers, `batches`
cuts batches; `step.prepare` turns a batch into the input of a model, on the device. All here
stays on the CPU. A new source of images is a module that `load` calls; splits never depend on a
run's seed.
"""
