"""The same service as a Python team would write it: Flask, PyJWT, cryptography,
argon2-cffi and flask-limiter on SQLite. Written from the contract, to compare with.

Run in an empty directory: NOT_MY_KEY=... gunicorn -w 2 -b 127.0.0.1:PORT server:app
"""

import os
import sqlite3
import time
import uuid

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask, Response, jsonify, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

SCHEMA = """
CREATE TABLE IF NOT EXISTS keys(kid INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, exp INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS users(id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT NOT NULL UNIQUE,
  password_hash TEXT NOT NULL, email TEXT UNIQUE, date_registered TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
  last_login TIMESTAMP);
CREATE TABLE IF NOT EXISTS auth_logs(id INTEGER PRIMARY KEY AUTOINCREMENT, request_ip TEXT NOT NULL,
  request_timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP, user_id INTEGER REFERENCES users(id));
"""

app = Flask(__name__)
limiter = Limiter(get_remote_address, app=app, storage_uri="memory://", strategy="moving-window")
hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
fernet = Fernet(os.environ["NOT_MY_KEY"])


def database():
    connection = sqlite3.connect("peer.db", timeout=10)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def first_keys():
    with database() as db:
        db.executescript(SCHEMA)
        db.execute("BEGIN IMMEDIATE")
        if db.execute("SELECT count(*) FROM keys").fetchone()[0] == 0:
            for exp in (time.time() + 3600, time.time() - 3600):
                key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
                pem = key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
                db.execute("INSERT INTO keys (key, exp) VALUES (?, ?)", (fernet.encrypt(pem), int(exp)))
        return [
            (str(kid), serialization.load_pem_private_key(fernet.decrypt(pem), None), exp)
            for kid, pem, exp in db.execute("SELECT kid, key, exp FROM keys")
        ]


KEYS = first_keys()


@app.get("/.well-known/jwks.json")
def key_set():
    now = time.time()
    members = []
    for kid, key, exp in KEYS:
        if exp > now:
            member = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            members.append({**member, "kid": kid, "use": "sig", "alg": "RS256"})
    answer = jsonify(keys=members)
    answer.headers["Cache-Control"] = "public, max-age=300"
    answer.headers["Access-Control-Allow-Origin"] = "*"
    return answer


@app.post("/register")
def register():
    body = request.get_json()
    password = str(uuid.uuid4())
    try:
        with database() as db:
            db.execute(
                "INSERT INTO users (username, password_hash, email) VALUES (?, ?, ?)",
                (body["username"], hasher.hash(password), body["email"]),
            )
    except sqlite3.IntegrityError:
        return {"error": "taken"}, 409
    return {"password": password}, 201


@app.post("/auth")
@limiter.limit("10 per second")
def sign_in():
    body = request.get_json()
    with database() as db:
        row = db.execute(
            "SELECT id, password_hash FROM users WHERE username = ?", (body["username"],)
        ).fetchone()
        try:
            hasher.verify(row[1] if row else hasher.hash("x"), body["password"])
        except VerificationError:
            return {"error": "unknown username or wrong password"}, 401
        now = int(time.time())
        expired = "expired" in request.args
        kid, key, _ = next(k for k in KEYS if (k[2] <= now) == expired)
        claims = {"sub": body["username"], "iat": now, "exp": now + (-3600 if expired else 1800)}
        token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid})
        db.execute(
            "INSERT INTO auth_logs (request_ip, user_id) VALUES (?, ?)",
            (request.remote_addr, row[0]),
        )
        db.execute("UPDATE users SET last_login = CURRENT_TIMESTAMP WHERE id = ?", (row[0],))
    return {"token": token}


@app.errorhandler(429)
def too_many(_):
    return Response('{"error":"too many requests"}', 429, {"Retry-After": "1"}, mimetype="application/json")
