"""Reads a database as the earlier server in Python did, and counts its rows.

Arguments: the file, then NAME=PASSWORD of users who must be able to sign in.
NOT_MY_KEY is taken from the environment.
"""

import ipaddress
import os
import sqlite3
import sys
from datetime import datetime

from argon2 import PasswordHasher
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.serialization import load_pem_private_key

TIME = "%Y-%m-%d %H:%M:%S"

path, *given = sys.argv[1:]
passwords = dict(entry.split("=") for entry in given)
fernet = Fernet(os.environ["NOT_MY_KEY"])
db = sqlite3.connect(path)

keys = db.execute("SELECT * FROM keys").fetchall()
for kid, key, exp in keys:
    assert load_pem_private_key(fernet.decrypt(key), None).key_size == 2048, kid
    assert type(exp) is int, kid

users = db.execute("SELECT * FROM users").fetchall()
for number, name, password_hash, email, registered, last_login in users:
    if name in passwords:
        PasswordHasher().verify(password_hash, passwords.pop(name))
    datetime.strptime(registered, TIME)
    if last_login is not None:
        datetime.strptime(last_login, TIME)
assert not passwords, passwords

logs = db.execute("SELECT * FROM auth_logs").fetchall()
for number, address, at, user in logs:
    ipaddress.ip_address(address)
    datetime.strptime(at, TIME)

print(f"keys={len(keys)} users={len(users)} auth_logs={len(logs)}")
