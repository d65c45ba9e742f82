"""`modelmint tune`: a search for better parameters of the training.

search_space (tasks)  which parameters, between which values
studies               the study in the registry's database, which several commands share
trials                one training, in a worktree of its own
search                the workers of this command
repeats               the best trials and the defaults with other seeds, and the verdict
results               what the user, the artifacts and the version get to see
flow                  all of it as one flow run
"""
