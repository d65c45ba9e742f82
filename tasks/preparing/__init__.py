"""What `prepare` is made of, in the order in which it happens: each module judges or changes one
thing, and writes nothing.
"""
