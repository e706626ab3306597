package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// The exit statuses of serin verdict and gate. Anything else means that there is no
// answer, which a pipeline must treat as hold.
const (
	exitHold     exit = 10
	exitRollback exit = 20
)

// verdictCommand asks a server for a verdict, for use in a pipeline.
func verdictCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("verdict", flag.ContinueOnError)
	server := fs.String("server", envOr("SERIN_SERVER", "http://127.0.0.1:8711"), "`URL` of the server (SERIN_SERVER)")
	token := fs.String("token", "", "viewer's `token`; better given as SERIN_TOKEN, which other users of the machine do not see")
	wait := fs.Bool("wait", false, "wait until the verdict is promote or rollback")
	timeout := fs.Duration("timeout", time.Hour, "longest `time` to wait")
	asJSON := fs.Bool("json", false, "print the whole verdict as JSON")
	rest, err := parse(fs, args, 1, stderr)
	if err != nil {
		return err
	}
	if *token == "" {
		*token = os.Getenv("SERIN_TOKEN")
	}
	if *timeout <= 0 {
		fmt.Fprintf(stderr, "serin verdict: timeout: %v: want above 0\n", *timeout)
		return errUsage
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	var v verdict.Verdict
	var raw []byte
	for {
		poll := "0s"
		if *wait && v.Rollout != "" { // what stands is asked for first, so that there is an answer when the time is up
			poll = "30s"
		}
		raw, err = get(ctx, *server+"/v1/rollouts/"+url.PathEscape(rest[0])+"/verdict?wait="+poll, *token)
		switch {
		case err == nil:
			if err := json.Unmarshal(raw, &v); err != nil {
				return fmt.Errorf("read the server's answer: %w", err)
			}
		case ctx.Err() != nil && v.Rollout != "":
			// The time is up while a hold stands: that is an answer.
		case !*wait || !temporary(err) || ctx.Err() != nil:
			return err
		default:
			// A server that is away for a moment must not fail a pipeline.
			fmt.Fprintf(stderr, "serin verdict: %v; trying again\n", err)
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
			}
			continue
		}
		if v.At(time.Now()) != verdict.Hold || !*wait || ctx.Err() != nil {
			break
		}
	}
	if *asJSON {
		fmt.Fprintf(stdout, "%s\n", strings.TrimSpace(string(raw)))
	} else {
		fmt.Fprintf(stdout, "%s\n%s\n", v.At(time.Now()), v.Sentence)
	}
	switch v.At(time.Now()) {
	case verdict.Promote:
		return nil
	case verdict.Rollback:
		return exitRollback
	}
	return exitHold
}

func envOr(name, def string) string {
	if s := os.Getenv(name); s != "" {
		return s
	}
	return def
}

// statusError is an answer other than 200.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answered %d: %s", e.status, e.message)
}

// temporary reports whether asking again can help: no answer at all, or a
// fault of the server's.
func temporary(err error) bool {
	if errors.Is(err, errURL) {
		return false
	}
	var se *statusError
	return !errors.As(err, &se) || se.status >= 500 || se.status == http.StatusTooManyRequests
}

// errURL says that what is to be asked is no server.
var errURL = errors.New("want a URL such as http://127.0.0.1:8711")

func get(ctx context.Context, u, token string) ([]byte, error) {
	return call(ctx, http.MethodGet, u, token, nil)
}

// call makes one request of the API and returns the body of a 2xx answer.
func call(ctx context.Context, method, u, token string, body io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		return nil, fmt.Errorf("server: %s: %w", u, errURL)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 32<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		var fault struct {
			Error struct{ Message string }
		}
		if json.Unmarshal(data, &fault) != nil || fault.Error.Message == "" {
			fault.Error.Message = strings.TrimSpace(string(data[:min(len(data), 200)]))
		}
		return nil, &statusError{res.StatusCode, fault.Error.Message}
	}
	return data, nil
}
