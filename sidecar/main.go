// Command daprd is the Dapr sidecar with the components this project works with and nothing else:
// a build of minutes instead of a quarter of an hour, and a binary that starts in under a second.
//
// It takes the flags of a stock daprd. Components that are not built in can still be attached as
// pluggable components over a Unix socket: the runtime looks for them itself.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/dapr/dapr/cmd/daprd/options"
	"github.com/dapr/dapr/pkg/buildinfo"
	"github.com/dapr/dapr/pkg/runtime"
	"github.com/dapr/kit/logger"
	"github.com/dapr/kit/signals"
)

func main() {
	log := logger.NewLogger("dapr.runtime")

	opts, err := options.New(os.Args[1:])
	if err != nil {
		log.Fatalf("cannot read the command line: %v", err)
	}

	if done := answerAndLeave(opts); done {
		return
	}

	opts.Logger.SetAppID(opts.AppID)
	if err := logger.ApplyOptionsToLoggers(&opts.Logger); err != nil {
		log.Fatalf("cannot set up logging: %v", err)
	}

	log.Infof("Starting Dapr Runtime -- version %s", buildinfo.Version())
	shareLogger(logger.NewLogger("dapr.contrib"), log)
	registerComponents()

	if err := serve(signals.Context(), opts, log); err != nil {
		log.Fatalf("Fatal error from runtime: %s", err)
	}
	log.Info("Daprd shutdown gracefully")
}

// answerAndLeave handles the flags that ask a question instead of starting a sidecar.
func answerAndLeave(opts *options.Options) bool {
	switch {
	case opts.RuntimeVersion:
		fmt.Println(buildinfo.Version())
	case opts.BuildInfo:
		fmt.Printf("Version: %s\nGit Commit: %s\nGit Version: %s\n",
			buildinfo.Version(), buildinfo.Commit(), buildinfo.GitVersion())
	case opts.WaitCommand:
		runtime.WaitUntilDaprOutboundReady(opts.DaprHTTPPort)
	default:
		return false
	}
	return true
}

// serve runs the sidecar until a signal, the shutdown API or a fatal error ends it.
// SIGHUP starts the runtime afresh in the same process, as in a stock daprd.
func serve(ctx context.Context, opts *options.Options, log logger.Logger) error {
	runs := signals.OnHUP(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case run, open := <-runs:
			if !open {
				return nil
			}
			if err := runOnce(run, opts, log); err != nil {
				return err
			}
			if run.Err() == nil {
				return nil // ended by itself, not by SIGHUP: there is nothing to start again
			}
		}
	}
}
