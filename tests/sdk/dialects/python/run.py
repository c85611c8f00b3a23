"""Runs every scenario of one client against each of the URLs it is told, and prints what came of it, a line of JSON each.

Arguments: the client's name, and a JSON list of `{"upstream": …, "prefix": …, "url": …}`.
"""

import importlib
import json
import sys
import traceback
import warnings

import scenarios

warnings.simplefilter("ignore")
client_name, targets = sys.argv[1], json.loads(sys.argv[2])
client_class = importlib.import_module(client_name).Client
for target in targets:
    client = client_class(target["url"], target["prefix"])
    for name, scenario in scenarios.ALL.items():
        if not client.can(name):
            continue
        try:
            result = scenario(client)
        except Exception:
            result = {"failed": traceback.format_exc()[-700:]}
        print(json.dumps({"upstream": target["upstream"], "scenario": name, "result": result}), flush=True)
