package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"serin.dev/serin/alerting/webhook"
	"serin.dev/serin/analysis/verdict"
)

// The demo's actors.
const (
	demoKey      = "pk_demo"
	demoRollout  = "release-2.4.1"
	demoApp      = "shop-web"
	demoCanary   = "2.4.1"
	demoBaseline = "2.4.0"
	demoChange   = "release/2.4.1"
	demoWeight   = 0.1
	demoBroken   = "tablet" // the device class on which the canary breaks the checkout
	demoDeadline = 5 * time.Minute
)

// demoPolicy differs from the default where a demonstration must be quick: the
// guards of the default want hours of traffic for a promote, not half a minute.
// Alpha and beta, the promises of a verdict, are the defaults.
const demoPolicy = `{
  "epoch": "2s", "silence_after": "10s", "settle": "1ms",
  "guardrails": {
    "error_free":  {"margin": 1.0}, "telemetry": {"margin": 1.0}, "requests_ok": {"margin": 1.0},
    "lcp_good":    {"margin": 0.5}, "inp_good":  {"margin": 0.5}, "cls_good":    {"margin": 0.5}
  }
}`

// demo runs the whole way on one machine: the server, a rollout, simulated
// clients over HTTP, and a receiver of the webhook.
func demo(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	healthy := fs.Bool("healthy", false, "a canary that breaks nothing")
	once := fs.Bool("once", false, "stop after the verdict; exit status 0 if it came as it should")
	listen := fs.String("listen", "127.0.0.1:0", "`address` of the server")
	rate := fs.Float64("rate", 200, "`sessions` per second")
	seed := fs.Uint64("seed", 1, "`seed` of the simulated clients")
	if _, err := parse(fs, args, 0, stderr); err != nil {
		return err
	}
	if !(*rate >= 1 && *rate <= 5000) {
		fmt.Fprintf(stderr, "serin demo: -rate: %v: want 1 to 5000\n", *rate)
		return errUsage
	}
	dir, err := os.MkdirTemp("", "serin-demo-*")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)

	secretText := "whsec_" + base64Random(32)
	secret, err := webhook.ParseSecret(secretText)
	if err != nil {
		return err
	}
	receiver, err := newReceiver(secret)
	if err != nil {
		return err
	}
	defer receiver.close()
	token := "sk_" + random(12)
	c, err := loadConfig("")
	if err != nil {
		return err
	}
	c.Listen, c.Data, c.Journal.URL = *listen, dir, ""
	c.WebhookAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Tenants = []tenantConfig{{ID: "demo",
		Keys:     []keyConfig{{Key: demoKey, App: demoApp}},
		Tokens:   []tokenConfig{{Name: "demo", Role: "releaser", Token: token}},
		Webhooks: []webhookConfig{{Name: "receiver", URL: receiver.url(), Secret: secretText}}}}
	s, err := newServer(ctx, c, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.run(ctx); err != nil {
			cancel(err)
		}
	}()
	defer func() {
		cancel(nil)
		<-ended
	}()

	d := &demonstration{server: s.url(), token: token, receiver: receiver, out: stdout, healthy: *healthy, began: time.Now()}
	if err := d.start(ctx); err != nil {
		return err
	}
	clients := traffic{server: s.url(), key: demoKey, app: demoApp, change: demoChange, canary: demoCanary, baseline: demoBaseline,
		weight: demoWeight, rate: *rate, broken: demoBroken, seed: *seed}
	if *healthy {
		clients.broken = ""
	}
	clientsCtx, stopClients := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		clients.run(clientsCtx, &d.sent)
	}()
	// The clients leave before the server does.
	defer func() {
		stopClients()
		<-gone
	}()
	v, err := d.watch(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && cause != context.Canceled {
			return cause
		}
		return err
	}
	d.conclude(v)
	want := verdict.Rollback
	if *healthy {
		want = verdict.Promote
	}
	if !*once {
		fmt.Fprintf(stdout, "\nThe server and its clients go on; press Ctrl-C to stop.\n")
		<-ctx.Done()
	}
	if v.Decision != want {
		return fmt.Errorf("the verdict is %s, and should be %s", v.Decision, want)
	}
	return nil
}

// demonstration is what the demo's terminal shows.
type demonstration struct {
	server, token string
	receiver      *receiver
	out           io.Writer
	healthy       bool
	began         time.Time
	sent          sent
}

// start waits for the server and registers the rollout, as a delivery tool
// would.
func (d *demonstration) start(ctx context.Context) error {
	for {
		_, err := get(ctx, d.server+"/readyz", "")
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
	body, err := json.Marshal(map[string]any{"id": demoRollout, "app": demoApp, "change": demoChange, "canary": demoCanary, "baseline": demoBaseline,
		"stages": []map[string]any{{"weight": demoWeight, "min_sessions": 300, "dwell": "20s", "deadline": demoDeadline.String()}},
		"policy": json.RawMessage(demoPolicy)})
	if err != nil {
		return fmt.Errorf("make the rollout: %w", err)
	}
	if _, err := call(ctx, http.MethodPost, d.server+"/v1/rollouts", d.token, bytes.NewReader(body)); err != nil {
		return fmt.Errorf("register the rollout: %w", err)
	}
	what := fmt.Sprintf("it breaks the checkout on %ss, which are 9 %% of the sessions", demoBroken)
	if d.healthy {
		what = "it breaks nothing"
	}
	fmt.Fprintf(d.out, "Release %s of %s goes to %.0f %% of the sessions, against %s; %s.\nWatch it at %s\n\n",
		demoCanary, demoApp, 100*demoWeight, demoBaseline, what, d.page())
	return nil
}

func (d *demonstration) page() string { return d.server + "/#token=" + d.token }

// watch prints the progress until a final verdict has come over the webhook.
func (d *demonstration) watch(ctx context.Context) (*verdict.Verdict, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, demoDeadline+30*time.Second)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no verdict came over the webhook: %w", ctx.Err())
		case a := <-d.receiver.arrivals:
			if a.err != nil {
				return nil, fmt.Errorf("a webhook came that is not from the server: %w", a.err)
			}
			if v := a.verdict; v.Decision != verdict.Hold {
				fmt.Fprintf(d.out, "\nwebhook %s: signature verified, verdict %d is %s\n", a.id, v.Number, v.Decision)
				return v, nil
			}
		case <-tick.C:
			raw, err := get(ctx, d.server+"/v1/rollouts/"+demoRollout+"/verdict", d.token)
			if err != nil {
				return nil, fmt.Errorf("ask for the verdict: %w", err)
			}
			var v verdict.Verdict
			if err := json.Unmarshal(raw, &v); err != nil {
				return nil, fmt.Errorf("read the verdict: %w", err)
			}
			fmt.Fprintf(d.out, "%3.0f s  %6d sessions (%d on the canary)  %6d beacons acknowledged, %d not  evidence of harm %6.2f of %.2f  %s: %s\n",
				time.Since(d.began).Seconds(), d.sent.sessions.Load(), v.Sessions.Canary, d.sent.beacons.Load(), d.sent.failed.Load(),
				known(v.LogEHarm), v.LogNeeded, v.Decision, v.Reasons[0].Code)
		}
	}
}

// known returns a bound for printing; before any evidence ln e is 0.
func known(b verdict.Bound) float64 {
	if math.IsNaN(float64(b)) {
		return 0
	}
	return float64(b)
}

// conclude prints what the verdict says.
func (d *demonstration) conclude(v *verdict.Verdict) {
	p := func(format string, a ...any) { fmt.Fprintf(d.out, format, a...) }
	p("\n%s after %.0f s\n  %s\n", v.Decision, time.Since(d.began).Seconds(), v.Sentence)
	shown := v.Blame
	if v.Decision == verdict.Promote {
		shown = v.Findings
	}
	for i, f := range shown {
		if i == 6 {
			break
		}
		stratum := f.Stratum
		if stratum == "" {
			stratum = "all strata"
		}
		p("  guardrail %-11s stratum %-12s canary %d of %d failed, baseline %d of %d; odds x %s (95 %%: %s to %s)\n", f.Guardrail, stratum,
			f.Failures.Canary, f.Sessions.Canary, f.Failures.Baseline, f.Sessions.Baseline, number(f.Effect.Ratio), number(f.Effect.Lo), number(f.Effect.Hi))
	}
	r := v.Radius
	p("  blast radius: %d canary sessions of about %d users; %s failed sessions more than expected (95 %%: %s to %s)\n", r.Sessions, r.Users,
		number(r.Excess), number(r.ExcessLo), number(r.ExcessHi))
	p("  the evidence is at %s\n", d.page())
}

func number(b verdict.Bound) string {
	switch f := float64(b); {
	case math.IsNaN(f):
		return "not known yet" // as the wire has it: null
	case math.IsInf(f, 0):
		return "unbounded"
	case math.Abs(f) >= 20:
		return fmt.Sprintf("%.0f", f)
	default:
		return fmt.Sprintf("%.2f", f)
	}
}

// receiver is a delivery tool's end of the webhook.
type receiver struct {
	listener net.Listener
	server   *http.Server
	arrivals chan arrival
}

type arrival struct {
	id      string
	verdict *verdict.Verdict
	err     error
}

func newReceiver(secret webhook.Secret) (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the webhook: %w", err)
	}
	r := &receiver{listener: l, arrivals: make(chan arrival, 64)}
	last := uint64(0)
	r.server = &http.Server{ReadHeaderTimeout: headerTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
		if err == nil {
			err = webhook.Verify(secret, req.Header, body)
		}
		var m struct{ Data verdict.Verdict }
		if err == nil {
			err = json.Unmarshal(body, &m)
		}
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			r.arrivals <- arrival{err: err}
			return
		}
		w.WriteHeader(http.StatusNoContent)
		// Delivery is at least once and in order: what is not newer was here.
		if m.Data.Number > last {
			last = m.Data.Number
			r.arrivals <- arrival{id: req.Header.Get("webhook-id"), verdict: &m.Data}
		}
	})}
	go r.server.Serve(l) // it ends with close
	return r, nil
}

func (r *receiver) url() string { return "http://" + r.listener.Addr().String() + "/hook" }
func (r *receiver) close()      { _ = r.server.Close() }
