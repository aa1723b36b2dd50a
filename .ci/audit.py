"""Says which of pip-audit's packages have known vulnerabilities, and how many it found nothing of.

pip-audit --format json | python .ci/audit.py
"""

import json
import sys

text = sys.stdin.read()
packages = json.loads(text)["dependencies"] if text.strip() else []
known = [package for package in packages if "vulns" in package]
for package in known:
    for bug in package["vulns"]:
        fixed = ", ".join(bug["fix_versions"]) or "no version"
        print(f"pip-audit: {package['name']} {package['version']}: {bug['id']}, mended in {fixed}")
if known:
    bad = sum(bool(package["vulns"]) for package in known)
    print(f"pip-audit: {bad} of {len(known)} packages have known vulnerabilities", end="; ")
    print(f"{len(packages) - len(known)} more are not in its database")
else:
    print("pip-audit: its database cannot be reached, no report")
