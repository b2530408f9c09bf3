"""What survives a crash: jobs, documents, records.

In: changes, as values. Out: results, after the commit that holds them returned. The commit belongs
to one writer task; whoever waits for it may be cancelled without splitting it, and finds its job
again by uuid. Not promised: that a document is still there after its retention.
"""
