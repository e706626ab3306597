// Package ingest is the edge: it takes beacons over HTTP from clients that
// nobody trusts, checks the key before it reads the body, reads no more than
// the limits allow, decodes, admits, and acknowledges a beacon when the group
// that it is in is stored and synced.
package ingest

import (
	"context"
	"log/slog"
	"net/http"
	"os/exec"
	"sync"
	"time"

	"serin.dev/serin/ingest/admit"
	"serin.dev/serin/ingest/taste"
	"serin.dev/serin/internal/tenant"
)

// Options say what an edge works on.
type Options struct {
	Tenants *tenant.Directory
	Journal Appender
	Fail    func(error) // called where the journal refused a write; the process should end and start again
	Logger  *slog.Logger
	Now     func() time.Time // default time.Now
	// DelayTarget is how long the store may take before events are shed;
	// default 50 ms.
	DelayTarget time.Duration
	// Taster makes a child process that runs [ServeTaster]; bodies of a kind that
	// is not familiar are decoded in such children. Without it they are decoded in
	// this process.
	Taster   func() *exec.Cmd
	Tasters  int  // children; default 4
	TasteAll bool // all bodies are decoded in children, for good
	Network  Network
}

// Edge serves the clients. Make it with [New]; [Edge.Run] must run for beacons
// to be acknowledged.
type Edge struct {
	o           Options
	batcher     *batcher
	metrics     *metricSet
	works       sync.Pool // of *work
	decoders    sync.Pool // of *decoding
	mux         *http.ServeMux
	perimeter   *admit.Perimeter
	cardinality *admit.Cardinality
	gate        *admit.Gate
	streams     streams
	tasters     *taste.Pool // nil: decoded here
	familiar    familiar
	breaker     breaker

	foreignCounts sync.Map // of *foreignCounters by counterOf
}

// New returns an edge.
func New(o Options) *Edge {
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &Edge{o: o, metrics: newMetricSet(), mux: http.NewServeMux()}
	e.batcher = newBatcher(o.Journal, e.metrics, o.Fail)
	e.gate = admit.NewGate(o.DelayTarget, memoryShort())
	e.breaker.now = o.Now
	e.perimeter = o.Network.perimeter()
	e.cardinality = admit.NewCardinality()
	if o.Taster != nil {
		e.tasters = taste.New(taste.Options{Command: o.Taster, Tasters: o.Tasters, Logger: o.Logger, Now: o.Now})
	}
	e.works.New = func() any { return new(work) }
	e.decoders.New = func() any { return new(decoding) }
	e.mux.HandleFunc("POST /v1/beacons", e.beacons)
	e.mux.HandleFunc("OPTIONS /v1/beacons", e.preflight)
	e.mux.HandleFunc("GET /v1/stream", e.stream)
	e.foreignRoutes()
	return e
}

// Run stores groups until ctx ends, and then what is still open.
func (e *Edge) Run(ctx context.Context) error {
	// The batcher outlives the streams, which end when what they have read is
	// acknowledged.
	store, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { e.gate.Run(ctx) })
	wg.Go(func() {
		e.watchStreams(ctx)
		stop()
	})
	e.batcher.run(store)
	wg.Wait()
	if err := e.streams.close(); err != nil {
		e.o.Logger.Warn("the lot of quiet streams was not closed", "err", err)
	}
	if e.tasters != nil {
		e.tasters.Close()
	}
	return nil
}

// ServeHTTP serves the routes of clients.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

// Routes returns the patterns that the edge serves.
func (e *Edge) Routes() []string {
	routes := []string{"/v1/beacons", "/v1/stream"}
	for _, p := range protocols {
		routes = append(routes, p.paths...)
	}
	return routes
}
