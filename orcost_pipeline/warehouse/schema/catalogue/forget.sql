-- What has been dropped for good.
delete from ops.schema_object where name = any(:names)
