package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/alerting/policy"
	"serin.dev/serin/alerting/protection"
	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/openslo"
	"serin.dev/serin/ingest"
	"serin.dev/serin/ingest/lane"
	"serin.dev/serin/internal/api"
	"serin.dev/serin/internal/store/journal"
	"serin.dev/serin/internal/store/segment"
	"serin.dev/serin/internal/tenant"
)

// server is all roles in one process. The data plane (edge and journal) and
// the control plane (analysis and deliveries) fail apart: where the control
// plane fails, it is opened anew from its checkpoint while beacons are taken;
// where the journal fails, the process ends, because what a journal holds after a failed
// write is known only when it is opened again.
type server struct {
	c        config
	logger   *slog.Logger
	tenants  *tenant.Directory
	targets  []webhook.Target
	ladders  map[string]policy.Ladder // of rollbacks that nobody acknowledges, by tenant
	policies analysis.Policies
	slos     analysis.Objectives
	alerts   *alerts
	// protection holds the deployments that wait for a review on GitHub.
	protection *protection.Book
	// evaluator gives the objectives of an analysis.
	evaluator func(*analysis.Engine) evaluator
	journal   *journal.Journal
	events    *journal.Log
	control   *journal.Log
	edge      *ingest.Edge
	gates     *tenant.Capabilities
	engine    atomic.Pointer[analysis.Engine] // nil while the control plane is down
	listener  net.Listener
	front     *lane.Server // made by run
	failed    chan error
}

// The bounds of a request. The longest answer is a long poll of a minute.
const (
	headerTimeout   = 5 * time.Second
	readTimeout     = 30 * time.Second
	writeTimeout    = 90 * time.Second
	idleTimeout     = 2 * time.Minute
	quietAfter      = 2 * time.Second
	shutdownTimeout = 5 * time.Second
	maxHeaderBytes  = 16 << 10

	headerSlack = 4 << 10 // what net/http reads of a header beyond its MaxHeaderBytes
)

// newServer opens the journal and listens; nothing is served before run.
func newServer(ctx context.Context, c config, logger *slog.Logger) (_ *server, err error) {
	s := &server{c: c, logger: logger, failed: make(chan error, 1)}
	s.evaluator = func(e *analysis.Engine) evaluator { return states{e, s} }
	if s.tenants, err = c.directory(); err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	if s.targets, err = c.targets(); err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	if s.ladders, err = c.ladders(); err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	if s.policies, err = c.policies(); err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	var notes []openslo.Note
	if s.slos, notes, err = c.objectives(); err != nil {
		return nil, fmt.Errorf("configuration:\n%w", err)
	}
	for _, n := range notes {
		logger.Warn("an objective is likely not what was meant", "note", n.String())
	}
	if s.alerts, err = openAlerts(&c, logger.With("part", "alerts")); err != nil {
		return nil, err
	}
	if s.protection, err = s.openProtection(logger.With("part", "protection")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	// Listening comes first: a port that is taken is the likeliest fault, and
	// finding it must not cost a recovery of the journal.
	if s.listener, err = net.Listen("tcp", c.Listen); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s.journal, err = journal.Open(ctx, journal.Options{Dir: c.path("journal"), URL: c.Journal.URL, Credentials: c.Journal.Credentials,
		Replicas: c.Journal.Replicas, Logger: logger.With("part", "journal")})
	if err != nil {
		return nil, err
	}
	if s.events, err = s.journal.Log(ctx, "events", journal.LogOptions{MaxBytes: c.Journal.MaxBytes, MaxAge: c.Journal.MaxAge}); err != nil {
		return nil, err
	}
	if s.control, err = s.journal.Log(ctx, "control", journal.LogOptions{}); err != nil {
		return nil, err
	}
	if s.gates, err = s.capabilities(); err != nil {
		return nil, err
	}
	network, err := s.network()
	if err != nil {
		return nil, err
	}
	s.edge = ingest.New(ingest.Options{Tenants: s.tenants, Journal: s.events, Logger: logger.With("part", "ingest"), Fail: s.fail,
		Taster: taster, Tasters: c.Taste.Tasters, TasteAll: c.Taste.Isolation == "process", Network: network})
	return s, nil
}

// tasterCommand is the word by which this binary runs as a taster: no command
// for people.
const tasterCommand = "taste-worker"

// taster makes a child of this same binary. What it writes to its standard
// error is the last thing that a dying process says of its death; it is dropped,
// since its text may hold what killed it.
func taster() *exec.Cmd {
	// A path would lead to whatever stands there by now, such as the next version.
	self := "/proc/self/exe"
	if _, err := os.Stat(self); err != nil {
		if self, err = os.Executable(); err != nil {
			self = os.Args[0]
		}
	}
	cmd := exec.Command(self)
	cmd.Args = []string{os.Args[0], tasterCommand}
	cmd.Env = []string{"GOMAXPROCS=1"} // and nothing of ours, such as tokens
	return cmd
}

// fail ends the process's run with an error; the first one counts.
func (s *server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

func (s *server) close() {
	if s.listener != nil {
		_ = s.listener.Close() // closed already where run served it
	}
	if s.journal != nil {
		s.journal.Close()
	}
}

// url is where the server is reached.
func (s *server) url() string { return "http://" + s.listener.Addr().String() }

// run serves until ctx ends, then answers what is under way, stores it and
// seals. It returns an error where only a new process can help.
func (s *server) run(ctx context.Context) error {
	defer s.close()
	s.front = lane.New(lane.Options{Handler: s.edge.Front(), MaxBody: ingest.MaxBody, TooLarge: ingest.TooLarge, HeaderTimeout: headerTimeout, BodyTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, Quiet: quietAfter, Limit: s.c.maxConnections()})
	httpServer := &http.Server{Handler: s.routes(), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes - headerSlack, ErrorLog: log.New(withoutAddresses{slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug).Writer()}, "", 0)}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	edgeCtx, stopEdge := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEdge()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.front.Serve(s.listener); err != nil {
			s.fail(fmt.Errorf("serve: %w", err))
		}
	})
	wg.Go(func() {
		if err := httpServer.Serve(s.front.Rest()); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("serve: %w", err))
		}
	})
	wg.Go(func() { s.controlPlane(ctx) })
	wg.Go(func() { s.protection.Run(ctx, s.verdicts) })
	wg.Go(func() {
		if err := s.alerts.run(ctx, webhook.Options{Allow: s.c.WebhookAllow, Logger: s.logger.With("part", "alerts")}); err != nil {
			s.logger.Error("alerts are told no more", "error", err)
		}
	})
	var edge sync.WaitGroup
	edge.Go(func() {
		if err := s.edge.Run(edgeCtx); err != nil {
			s.fail(err)
		}
	})
	s.logger.Info("serving", "address", s.listener.Addr().String(), "data", s.c.Data, "tenants", len(s.c.Tenants))
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-s.failed:
		s.logger.Error("the data plane failed; the process ends so that a new one starts from what is stored", "error", failure)
	}
	stop()
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	_ = s.front.Shutdown(shutdown) // an error says that clients were cut off, who were told nothing
	if err := httpServer.Shutdown(shutdown); err != nil {
		_ = httpServer.Close() // only open long polls are left
	}
	stopEdge()
	edge.Wait()
	wg.Wait()
	return failure
}

// controlPlane runs the analysis and the deliveries, again and again.
func (s *server) controlPlane(ctx context.Context) {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		began := time.Now()
		err := s.controlOnce(ctx)
		s.engine.Store(nil)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			wait = time.Second
		}
		metrics.GetOrCreateCounter("serin_analysis_restarts_total").Inc()
		s.logger.Error("the control plane failed and is opened again; beacons are taken meanwhile", "error", err, "wait", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (s *server) controlOnce(ctx context.Context) error {
	segments, err := segment.Open(s.c.path("segments"))
	if err != nil {
		return err
	}
	engine, err := analysis.Open(ctx, analysis.Options{Events: s.events, Control: s.control, Segments: segments,
		Checkpoint: s.c.path("checkpoint"), SealAfter: s.c.SealAfter, Policies: s.policies, Objectives: s.slos, Documents: documentKinds, ParsePolicy: parsePolicy, ObjectKinds: openslo.Kinds(), ParseObjects: parseObjects, Logger: s.logger.With("part", "analysis")})
	if err != nil {
		return err
	}
	deliverer, err := webhook.New(webhook.Options{Targets: s.targets, Outbox: outbox{engine, s.targets, s.ladders}, Allow: s.c.WebhookAllow, Logger: s.logger.With("part", "webhook")})
	if err != nil {
		return err
	}
	s.engine.Store(engine)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := deliverer.Run(ctx); err != nil {
			cancel(fmt.Errorf("deliver webhooks: %w", err))
		}
	})
	wg.Go(func() {
		if err := s.escalate(ctx, engine); err != nil {
			cancel(fmt.Errorf("escalate rollbacks: %w", err))
		}
	})
	wg.Go(func() { s.keepLive(ctx, engine) })
	wg.Go(func() { s.alerts.evaluate(ctx, s.evaluator(engine)) })
	err = engine.Run(ctx)
	cancel(err)
	wg.Wait()
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// routes puts all handlers on one listener.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, p := range s.edge.Routes() {
		mux.Handle(p, s.edge)
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if e := s.engine.Load(); e == nil || !e.Ready() {
			http.Error(w, "the analysis has not caught up with the journal; beacons are taken", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		metrics.WritePrometheus(w, true)
		metrics.WriteGaugeUint64(w, "serin_connections", uint64(s.front.Open()))
		metrics.WriteCounterUint64(w, "serin_connections_refused_total", uint64(s.front.Refused()))
		if e := s.engine.Load(); e != nil {
			position, lag := e.Gauges()
			metrics.WriteGaugeUint64(w, "serin_analysis_position", position)
			metrics.WriteGaugeUint64(w, "serin_analysis_lag_messages", lag)
		}
	})
	if s.c.SDK != "" {
		mux.HandleFunc("GET /serin.js", func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", "text/javascript; charset=utf-8")
			h.Set("Access-Control-Allow-Origin", "*") // so that a page may pin it with an integrity attribute
			h.Set("Cache-Control", "public, max-age=300")
			h.Set("X-Content-Type-Options", "nosniff")
			f, err := os.Open(s.c.SDK)
			if err != nil {
				s.logger.Error("the SDK's file cannot be read", "error", err)
				http.Error(w, "the SDK's file cannot be read", http.StatusInternalServerError)
				return
			}
			defer f.Close()
			http.ServeContent(w, r, "serin.js", time.Time{}, f)
		})
	}
	mux.Handle("POST /v1/github/{tenant}/{name}", s.protection)
	mux.Handle("/", api.New(api.Options{Tenants: s.tenants, Engine: s.engine.Load, Held: s.edge, Deliveries: deliveries{s}, Alerts: s.alerts, Capabilities: s.gates, Logger: s.logger.With("part", "api")}))
	return mux
}
