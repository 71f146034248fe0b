grant connect on database {database} to {login};
