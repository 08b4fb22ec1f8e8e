"""Where the servers of a world are, for the person who started them."""

from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]


def tell(world):
    folder = world.folder
    print(f"servers in {folder}, all on 127.0.0.1 (. {folder}/env)")
    sides = [("mailhaul", world.own), ("local", world.local)]
    if not world.settings.local_only:
        sides.append(("legacy", world.legacy))
    for side, numbers in sides:
        if side == "mailhaul" and not world.records.pid("mailhauld"):
            continue
        ports = "  ".join(f"{p} {n}" for p, n in numbers.items())
        print(f"  {side:9}{ports}")
    port = world.local["imaps"] if world.settings.local_only \
        else world.legacy["imaps"]
    print(f"""
  users     alice@{world.settings.domain}, password pw-alice; bob, carol ...
  look      openssl s_client -crlf -quiet -connect 127.0.0.1:{port}
            a LOGIN alice@{world.settings.domain} pw-alice
  logs      {folder}/*/*.log {folder}/mailhaul.log
  stop      {SCRIPTS}/dev-down {folder}""")
