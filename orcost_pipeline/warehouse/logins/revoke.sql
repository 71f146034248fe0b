revoke {roles} from {login};
delete from ref.viewer where login = {name};
