"""Makes users of SCRAM-SHA-512 and grants them rights, from JSON on standard input:
{"users": {NAME: PASSWORD}, "rights": [[NAME, "topic" or "group", PREFIX, [OPERATION, ...]], ...]}

usage: rights.py BROKER
"""

import json
import sys

from confluent_kafka.admin import (
    AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType,
    ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion,
)

wanted = json.load(sys.stdin)
admin = AdminClient({"bootstrap.servers": sys.argv[1]})
mechanism = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
users = [
    UserScramCredentialUpsertion(name, mechanism, password.encode())
    for name, password in wanted["users"].items()
]
rights = [
    AclBinding(
        ResourceType[kind.upper()], prefix, ResourcePatternType.PREFIXED, f"User:{name}", "*",
        AclOperation[operation], AclPermissionType.ALLOW,
    )
    for name, kind, prefix, operations in wanted["rights"]
    for operation in operations
]
for done in [*admin.alter_user_scram_credentials(users).values(), *admin.create_acls(rights).values()]:
    done.result(30)
print(f"{len(users)} users, {len(rights)} rights")
