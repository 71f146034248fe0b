-- Whoever is no superuser ends the sessions of, and drops what is owned by, members of its own only.
grant {login} to current_user{option};
