"""Notifications: `modelmint serve` tells people of what needs them, by mail, webhook or command.

`channels` are the settings, `message` what is sent, `sending` one attempt, `outbox` what waits,
`conditions` the rule "once per cause", `runs` and `models` where causes are found, and `watcher`
the process that does it all, so that nothing here can fail or delay a run.
"""
