package main

import (
	"context"

	"github.com/dapr/dapr/cmd/daprd/options"
	"github.com/dapr/dapr/pkg/components/bindings"
	"github.com/dapr/dapr/pkg/components/configuration"
	"github.com/dapr/dapr/pkg/components/conversation"
	"github.com/dapr/dapr/pkg/components/crypto"
	"github.com/dapr/dapr/pkg/components/lock"
	httpmiddleware "github.com/dapr/dapr/pkg/components/middleware/http"
	"github.com/dapr/dapr/pkg/components/nameresolution"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/components/secretstores"
	"github.com/dapr/dapr/pkg/components/state"
	"github.com/dapr/dapr/pkg/healthz"
	"github.com/dapr/dapr/pkg/metrics"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/runtime"
	"github.com/dapr/dapr/pkg/runtime/registry"
	"github.com/dapr/dapr/pkg/security"
	"github.com/dapr/kit/concurrency"
	"github.com/dapr/kit/logger"
	"go.opencensus.io/stats/view"
)

// shareLogger gives every registry a logger, also those without components here: the runtime asks
// them for their pluggable and built-in components and does not check for a missing logger.
func shareLogger(contrib, own logger.Logger) {
	secretstores.DefaultRegistry.Logger = contrib
	state.DefaultRegistry.Logger = contrib
	crypto.DefaultRegistry.Logger = contrib
	configuration.DefaultRegistry.Logger = contrib
	lock.DefaultRegistry.Logger = contrib
	pubsub.DefaultRegistry.Logger = contrib
	nameresolution.DefaultRegistry.Logger = contrib
	bindings.DefaultRegistry.Logger = contrib
	conversation.DefaultRegistry.Logger = contrib
	httpmiddleware.DefaultRegistry.Logger = own
}

func registries() *registry.Options {
	return registry.NewOptions().
		WithSecretStores(secretstores.DefaultRegistry).
		WithStateStores(state.DefaultRegistry).
		WithConfigurations(configuration.DefaultRegistry).
		WithLocks(lock.DefaultRegistry).
		WithPubSubs(pubsub.DefaultRegistry).
		WithNameResolutions(nameresolution.DefaultRegistry).
		WithBindings(bindings.DefaultRegistry).
		WithCryptoProviders(crypto.DefaultRegistry).
		WithHTTPMiddlewares(httpmiddleware.DefaultRegistry).
		WithConversations(conversation.DefaultRegistry)
}

// runOnce runs one life of the runtime beside the provider of its mTLS identity; the end of either
// ends both.
func runOnce(ctx context.Context, opts *options.Options, log logger.Logger) error {
	health := healthz.New()
	provider, err := security.New(ctx, security.Options{
		SentryAddress:           opts.SentryAddress,
		ControlPlaneTrustDomain: opts.ControlPlaneTrustDomain,
		ControlPlaneNamespace:   opts.ControlPlaneNamespace,
		TrustAnchors:            opts.TrustAnchors,
		AppID:                   opts.AppID,
		MTLSEnabled:             opts.EnableMTLS,
		Mode:                    modes.DaprMode(opts.Mode),
		Healthz:                 health,
		JwtAudiences:            opts.SentryRequestJwtAudiences,
	})
	if err != nil {
		return err
	}

	sidecar := func(ctx context.Context) error {
		identity, err := provider.Handler(ctx)
		if err != nil {
			return err
		}
		config := runtimeConfig(opts)
		config.Registry = registries()
		config.Security = identity
		config.Healthz = health
		config.Metrics = metricsConfig(opts, health, log)
		rt, err := runtime.FromConfig(ctx, config)
		if err != nil {
			return err
		}
		return rt.Run(ctx)
	}
	return concurrency.NewRunnerManager(provider.Run, sidecar).Run(ctx)
}

func metricsConfig(opts *options.Options, health healthz.Healthz, log logger.Logger) metrics.Options {
	return metrics.Options{
		Enabled:       opts.Metrics.Enabled(),
		Log:           log,
		Port:          opts.Metrics.Port(),
		Namespace:     metrics.DefaultMetricNamespace,
		Healthz:       health,
		ListenAddress: opts.Metrics.ListenAddress(),
		Meter:         view.NewMeter(),
	}
}

// runtimeConfig carries every command-line option into the runtime's own configuration.
func runtimeConfig(opts *options.Options) *runtime.Config {
	return &runtime.Config{
		AppID:                        opts.AppID,
		Mode:                         opts.Mode,
		Config:                       opts.Config,
		ResourcesPath:                opts.ResourcesPath,
		ComponentsPath:               opts.ComponentsPath,
		AllowedOrigins:               opts.AllowedOrigins,
		EnableProfiling:              opts.EnableProfiling,
		ProfilePort:                  opts.ProfilePort,
		EnableAPILogging:             opts.EnableAPILogging,
		DisableBuiltinK8sSecretStore: opts.DisableBuiltinK8sSecretStore,
		DisableInitEndpoints:         opts.DisableInitEndpoints,
		DaprGracefulShutdownSeconds:  opts.DaprGracefulShutdownSeconds,
		DaprBlockShutdownDuration:    opts.DaprBlockShutdownDuration,
		HotReloadReconcileInterval:   opts.HotReloadReconcileInterval,

		DaprHTTPPort:                  opts.DaprHTTPPort,
		DaprAPIGRPCPort:               opts.DaprAPIGRPCPort,
		DaprAPIListenAddresses:        opts.DaprAPIListenAddresses,
		DaprInternalGRPCPort:          opts.DaprInternalGRPCPort,
		DaprInternalGRPCListenAddress: opts.DaprInternalGRPCListenAddress,
		DaprPublicPort:                opts.DaprPublicPort,
		DaprPublicListenAddress:       opts.DaprPublicListenAddress,
		UnixDomainSocket:              opts.UnixDomainSocket,
		MaxRequestSize:                opts.MaxRequestSize,
		ReadBufferSize:                opts.ReadBufferSize,

		ApplicationPort:        opts.AppPort,
		AppProtocol:            opts.AppProtocol,
		AppChannelAddress:      opts.AppChannelAddress,
		AppMaxConcurrency:      opts.AppMaxConcurrency,
		AppSSL:                 opts.AppSSL,
		EnableAppHealthCheck:   opts.EnableAppHealthCheck,
		AppHealthCheckPath:     opts.AppHealthCheckPath,
		AppHealthProbeInterval: opts.AppHealthProbeInterval,
		AppHealthProbeTimeout:  opts.AppHealthProbeTimeout,
		AppHealthThreshold:     opts.AppHealthThreshold,

		ControlPlaneAddress:        opts.ControlPlaneAddress,
		SentryAddress:              opts.SentryAddress,
		EnableMTLS:                 opts.EnableMTLS,
		ActorsService:              opts.ActorsService,
		ActorsDisseminationTimeout: opts.ActorsDisseminationTimeout,
		RemindersService:           opts.RemindersService,
		SchedulerAddress:           opts.SchedulerAddress,
		SchedulerStreams:           opts.SchedulerJobStreams,
	}
}
