create role {login} login password {verifier};
comment on role {login} is {mark};
