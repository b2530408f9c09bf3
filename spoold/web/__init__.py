"""What a node shows over HTTP: health for load balancers, metrics, and the API of MFDs.

In: what the node looked up of itself a moment ago. Out: pages, ready to send. Asking costs next to
nothing, whoever asks and however often; who may see more than yes or no is decided for each.
`mfd_api` has the operations of MFDs as JSON.
"""
