"""The stages of dvc.yaml, a module each, and the rooms that they call, in the order of the data:

common, data, kernels, model, measure, report. A room imports those before it alone.
"""
