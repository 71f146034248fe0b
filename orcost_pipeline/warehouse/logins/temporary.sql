-- Nobody but the user of the syncs makes temporary tables.
grant temporary on database {database} to {owner};
revoke temporary on database {database} from public;
