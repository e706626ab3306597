package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"serin.dev/serin/analysis"
)

// releaseCommand tells the server what became of a release, or lists them.
func releaseCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("release", flag.ContinueOnError)
	var r remote
	server, token := r.flags(f, "releaser's, or for the list viewer's")
	asJSON := f.Bool("json", false, "print the list as JSON")
	rest, err := parseVerb(f, args, stderr, verb{"list", 0, ""}, verb{"deployed", 2, "APP RELEASE"}, verb{"released", 2, "APP RELEASE"}, verb{"withdrawn", 2, "APP RELEASE"})
	if err != nil {
		return err
	}
	r.server, r.token = *server, *token
	if r.token == "" {
		r.token = os.Getenv("SERIN_TOKEN")
	}
	if rest[0] != "list" {
		raw, err := r.send(ctx, http.MethodPost, "/v1/releases", map[string]string{"state": rest[0], "app": rest[1], "release": rest[2]})
		if err != nil {
			return err
		}
		var now analysis.Release
		if err := json.Unmarshal(raw, &now); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		fmt.Fprintf(stdout, "%s %s is %s\n", now.App, now.Release, now.State)
		return nil
	}
	var list struct{ Releases []analysis.Release }
	if err := r.read(ctx, "/v1/releases", &list); err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(stdout).Encode(list.Releases)
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "APP\tRELEASE\tSTATE\tSINCE\tBY\tLEAKED\t")
	for _, one := range list.Releases {
		leaked := ""
		if one.Leaked > 0 {
			leaked = fmt.Sprintf("%d sessions since %s", one.Leaked, one.FirstLeak.Format(time.RFC3339))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t\n", one.App, one.Release, one.State, one.Since.Format(time.RFC3339), one.Who, leaked)
	}
	return w.Flush()
}
