revoke orcost_may_sync from {login};
