// Command images makes the container images that the tests run, from Debian's packages and our own programs. No
// registry is needed, neither to build them nor to run them.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy.dev/understudy/hack/images/image"
	"understudy.dev/understudy/hack/images/recipe"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root := &cobra.Command{
		Use: "images", Short: "Make container images for the tests", SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(buildCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func buildCommand() *cobra.Command {
	var only []string
	var out, tag, root string
	all := recipe.All()
	var names []string
	for _, r := range all {
		names = append(names, r.Name)
	}
	command := &cobra.Command{
		Use:   "build --out FOLDER",
		Short: "Write each image as FOLDER/NAME.tar, for `ctr images import` or `cluster load-image`",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			for _, name := range only {
				if !slices.Contains(names, name) {
					return fmt.Errorf("there is no image %q: the images are %s", name, strings.Join(names, ", "))
				}
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return fmt.Errorf("making the folder of images: %w", err)
			}
			for _, r := range all {
				if len(only) > 0 && !slices.Contains(only, r.Name) || len(only) == 0 && r.Optional {
					continue
				}
				if err := build(command.Context(), r, out, root, tag); err != nil {
					return fmt.Errorf("making image %s: %w", r.Name, err)
				}
			}
			return nil
		},
	}
	command.Flags().StringSliceVar(&only, "only", nil, "images to make: "+strings.Join(names, ", "))
	command.Flags().StringVar(&out, "out", "", "folder to write to")
	command.Flags().StringVar(&tag, "tag", "dev", "tag of our own images")
	command.Flags().StringVar(&root, "repository", "../..", "clone whose programs our own images hold")
	if err := command.MarkFlagRequired("out"); err != nil {
		panic(err) // a flag that was not defined above
	}
	return command
}

func build(ctx context.Context, r recipe.Recipe, out, root, tag string) error {
	started := time.Now()
	path := filepath.Join(out, r.Name+".tar")
	inputs, known, err := fresh(r, path)
	if err != nil {
		return err
	}
	if known {
		fmt.Printf("%s is up to date as %s\n", r.Name, path)
		return nil
	}
	made, err := r.Make(ctx, recipe.Request{Repository: root, Tag: tag})
	if err != nil {
		return err
	}
	changed, err := image.Write(path, made)
	if err != nil {
		return err
	}
	if inputs != "" {
		if err := os.WriteFile(path+".inputs", []byte(inputs), 0o644); err != nil {
			return fmt.Errorf("recording what %s was made from: %w", path, err)
		}
	}
	state := "unchanged"
	if changed {
		state = "written"
	}
	fmt.Printf("%s %s as %s in %s\n", made.Reference, state, path, time.Since(started).Round(10*time.Millisecond))
	return nil
}

// fresh says whether an archive was made from what it would be made from now. It also returns what that is, or nothing
// for an image of which only making it tells: those are made of what go has cached already.
func fresh(r recipe.Recipe, path string) (string, bool, error) {
	if r.Inputs == nil {
		return "", false, nil
	}
	state, err := r.Inputs()
	if err != nil {
		return "", false, err
	}
	self, err := os.Executable()
	if err != nil {
		return "", false, fmt.Errorf("finding this program: %w", err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		return "", false, fmt.Errorf("reading this program: %w", err)
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %d\n", state, len(program))
	hash.Write(program)
	inputs := hex.EncodeToString(hash.Sum(nil))
	old, err := os.ReadFile(path + ".inputs")
	if err != nil || string(old) != inputs {
		return inputs, false, nil
	}
	_, err = os.Stat(path)
	return inputs, err == nil, nil
}
