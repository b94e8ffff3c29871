package main

import (
	configpostgres "github.com/dapr/components-contrib/configuration/postgres"
	configredis "github.com/dapr/components-contrib/configuration/redis"
	"github.com/dapr/components-contrib/nameresolution/mdns"
	resolversqlite "github.com/dapr/components-contrib/nameresolution/sqlite"
	"github.com/dapr/components-contrib/secretstores/local/env"
	"github.com/dapr/components-contrib/secretstores/local/file"
	"github.com/dapr/components-contrib/state"
	"github.com/dapr/components-contrib/state/aws/dynamodb"
	blobv1 "github.com/dapr/components-contrib/state/azure/blobstorage/v1"
	blobv2 "github.com/dapr/components-contrib/state/azure/blobstorage/v2"
	"github.com/dapr/components-contrib/state/azure/cosmosdb"
	"github.com/dapr/components-contrib/state/azure/tablestorage"
	"github.com/dapr/components-contrib/state/cassandra"
	"github.com/dapr/components-contrib/state/cockroachdb"
	"github.com/dapr/components-contrib/state/etcd"
	inmemory "github.com/dapr/components-contrib/state/in-memory"
	"github.com/dapr/components-contrib/state/jetstream"
	"github.com/dapr/components-contrib/state/memcached"
	"github.com/dapr/components-contrib/state/mongodb"
	"github.com/dapr/components-contrib/state/mysql"
	pgv1 "github.com/dapr/components-contrib/state/postgresql/v1"
	pgv2 "github.com/dapr/components-contrib/state/postgresql/v2"
	stateredis "github.com/dapr/components-contrib/state/redis"
	statesqlite "github.com/dapr/components-contrib/state/sqlite"
	"github.com/dapr/components-contrib/state/zookeeper"
	"github.com/dapr/dapr/pkg/components"
	"github.com/dapr/dapr/pkg/components/configuration"
	"github.com/dapr/dapr/pkg/components/nameresolution"
	"github.com/dapr/dapr/pkg/components/secretstores"
	stateloader "github.com/dapr/dapr/pkg/components/state"
	"github.com/dapr/kit/logger"
)

// stateFactory is what every state component offers: a constructor that takes a logger.
type stateFactory = func(logger.Logger) state.Store

// registerComponents makes the components of this build known to the runtime, under the same names
// and versions as in a stock daprd, so that a component file means the same in both.
func registerComponents() {
	registerUnversionedStates()
	registerVersionedStates()

	secretstores.DefaultRegistry.RegisterComponent(env.NewEnvSecretStore, "local.env")
	secretstores.DefaultRegistry.RegisterComponent(file.NewLocalSecretStore, "local.file")

	configuration.DefaultRegistry.RegisterComponent(configredis.NewRedisConfigurationStore, "redis")
	configuration.DefaultRegistry.RegisterComponent(
		configpostgres.NewPostgresConfigurationStore, "postgres", "postgresql")

	nameresolution.DefaultRegistry.RegisterComponent(mdns.NewResolver, "mdns")
	nameresolution.DefaultRegistry.RegisterComponent(resolversqlite.NewResolver, "sqlite")
}

func registerUnversionedStates() {
	reg := stateloader.DefaultRegistry
	reg.RegisterComponent(inmemory.NewInMemoryStateStore, "in-memory")
	reg.RegisterComponent(statesqlite.NewSQLiteStateStore, "sqlite", "sqlite3")
	reg.RegisterComponent(stateredis.NewRedisStateStore, "redis")
	reg.RegisterComponent(mysql.NewMySQLStateStore, "mysql")
	reg.RegisterComponent(mongodb.NewMongoDB, "mongodb")
	reg.RegisterComponent(dynamodb.NewDynamoDBStateStore, "aws.dynamodb")
	reg.RegisterComponent(tablestorage.NewAzureTablesStateStore, "azure.tablestorage")
	reg.RegisterComponent(cosmosdb.NewCosmosDBStateStore, "azure.cosmosdb")
	reg.RegisterComponent(cassandra.NewCassandraStateStore, "cassandra")
	reg.RegisterComponent(zookeeper.NewZookeeperStateStore, "zookeeper")
	reg.RegisterComponent(memcached.NewMemCacheStateStore, "memcached")
	reg.RegisterComponent(jetstream.NewJetstreamStateStore, "jetstream")
}

// registerVersionedStates keeps "v1" as the meaning of a component without a version where a stock
// daprd does. YugabyteDB has a v2 only, also there.
func registerVersionedStates() {
	for _, name := range []string{"postgres", "postgresql"} {
		registerTwoVersions(name, pgv2.NewPostgreSQLStateStore, pgv1.NewPostgreSQLStateStore)
	}
	registerTwoVersions("cockroachdb", pgv2.NewPostgreSQLStateStore, cockroachdb.New)
	registerTwoVersions("etcd", etcd.NewEtcdStateStoreV2, etcd.NewEtcdStateStoreV1)
	registerTwoVersions("azure.blobstorage", blobv2.NewAzureBlobStorageStore, blobv1.NewAzureBlobStorageStore)
	for _, name := range []string{"yugabyte", "yugabytedb"} {
		registerOnlyV2(name, pgv2.NewPostgreSQLStateStore)
	}
}

func registerTwoVersions(name string, v2, v1 stateFactory) {
	stateloader.DefaultRegistry.RegisterComponentWithVersions(name, components.Versioning{
		Preferred: components.VersionConstructor{Version: "v2", Constructor: v2},
		Others:    []components.VersionConstructor{{Version: "v1", Constructor: v1}},
		Default:   "v1",
	})
}

func registerOnlyV2(name string, v2 stateFactory) {
	stateloader.DefaultRegistry.RegisterComponentWithVersions(name, components.Versioning{
		Preferred: components.VersionConstructor{Version: "v2", Constructor: v2},
		Default:   "v2",
	})
}
