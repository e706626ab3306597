// Package verdicts measures how soon verdicts are where they have to be: from a
// decision to the receiver that takes it, and from the first bad beacon that was
// acknowledged to the rollback. The server is a process of its own, asked and told over HTTP.
package verdicts

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/internal/bench/process"
)

// The actors.
const (
	token = "sk_bench_releaser"
	key   = "pk_bench"
)

// secret signs the webhooks; the receivers here do not look at signatures.
const secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"

// server is a Serin that is measured.
type server struct {
	*process.Server
	url string
}

// start runs a program as a server that tells webhooks at some URLs.
func start(ctx context.Context, program string, env []string, dir string, hooks []string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	address := l.Addr().String()
	l.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "listen: %s\ndata: %s\nwebhook_allow: [127.0.0.0/8]\ntenants:\n- id: shop\n  keys: [{key: %s}]\n  tokens: [{name: ci, role: releaser, token: %s}]\n  webhooks:\n", address, filepath.Join(dir, "data"), key, token)
	for i, url := range hooks {
		fmt.Fprintf(&b, "  - {name: r%d, url: %q, secret: %s}\n", i, url, secret)
	}
	file := filepath.Join(dir, "serin.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return nil, fmt.Errorf("write a configuration: %w", err)
	}
	p, err := process.Start(process.Options{Env: env}, program, "serve", "--config", file)
	if err != nil {
		return nil, err
	}
	s := &server{p, "http://" + address}
	for range 600 {
		if p.Ended() {
			break
		}
		if res, err := http.Get(s.url + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			_ = p.Stop() // the context's error counts
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	_ = p.Stop() // that it did not become ready counts
	return nil, fmt.Errorf("%s does not become ready; it said:\n%s", program, p.Log())
}

// call makes one request with a token.
func (s *server) call(ctx context.Context, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("post %s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("post %s: %w", path, err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4096)) // a help for the error; the status has said it all
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("post %s: %s %s", path, res.Status, text)
	}
	return nil
}

// told is a verdict as a receiver reads it.
type told struct {
	Rollout  string    `json:"rollout"`
	Decision string    `json:"decision"`
	Sentence string    `json:"sentence"`
	IssuedAt time.Time `json:"issued_at"`
}

func read(r *http.Request) (told, error) {
	var m struct{ Data told }
	err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&m)
	return m.Data, err
}

// Delays are what was measured, sorted.
type Delays []time.Duration

// Quantile returns the delay that a share of all, in (0,1], does not exceed; 0 where
// there are none.
func (d Delays) Quantile(share float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	i := int(share * float64(len(d)))
	if float64(i) < share*float64(len(d)) {
		i++
	}
	return d[min(max(i, 1), len(d))-1]
}

// String returns the delays' p50, p99 and maximum.
func (d Delays) String() string {
	if len(d) == 0 {
		return "none"
	}
	round := func(t time.Duration) time.Duration { return t.Round(time.Millisecond) }
	return fmt.Sprintf("%d, p50 %v, p99 %v, max %v", len(d), round(d.Quantile(0.5)), round(d.Quantile(0.99)), round(slices.Max(d)))
}
