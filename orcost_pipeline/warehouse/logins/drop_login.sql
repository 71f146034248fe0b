drop owned by {login};
drop role {login};
