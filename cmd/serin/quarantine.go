package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

// quarantine shows an operator the bodies that killed a taster, and lets their
// form be tasted again.
func quarantine(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("quarantine", flag.ContinueOnError)
	server := fs.String("server", envOr("SERIN_SERVER", "http://127.0.0.1:8711"), "`URL` of the server (SERIN_SERVER)")
	token := fs.String("token", "", "admin's `token`; better given as SERIN_TOKEN")
	asJSON := fs.Bool("json", false, "print the list as JSON")
	rest, err := parseVerb(fs, args, stderr, verb{"list", 0, ""}, verb{"show", 1, "ID"}, verb{"release", 1, "FINGERPRINT"})
	if err != nil {
		return err
	}
	if *token == "" {
		*token = os.Getenv("SERIN_TOKEN")
	}
	base := *server + "/v1/quarantine"
	switch rest[0] {
	case "list":
		raw, err := get(ctx, base, *token)
		if err != nil {
			return err
		}
		if *asJSON {
			var list struct{ Quarantine json.RawMessage }
			if err := json.Unmarshal(raw, &list); err != nil {
				return fmt.Errorf("read the server's answer: %w", err)
			}
			return json.NewEncoder(stdout).Encode(list.Quarantine)
		}
		var list struct {
			Quarantine []struct {
				ID                                                 int64
				Fingerprint, Tenant, Key, Network, Protocol, Cause string
				At, Until                                          time.Time
				Size                                               int
			}
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		for _, e := range list.Quarantine {
			fmt.Fprintf(stdout, "%d\t%s\t%s\t%s\t%s\t%s\t%d bytes\t%s\tuntil %s\n", e.ID, e.Fingerprint, e.Protocol, e.Key, cmp.Or(e.Network, "-"), e.Cause, e.Size,
				e.At.Format(time.RFC3339), e.Until.Format(time.RFC3339))
		}
		return nil
	case "show":
		raw, err := get(ctx, base+"/"+url.PathEscape(rest[1]), *token)
		if err != nil {
			return err
		}
		_, err = stdout.Write(raw)
		return err
	case "release":
		if _, err := call(ctx, http.MethodPost, base+"/"+url.PathEscape(rest[1])+"/release", *token, nil); err != nil {
			return err
		}
		fmt.Fprintln(stdout, "released", rest[1])
		return nil
	}
	panic("BUG: no verb " + rest[0])
}
