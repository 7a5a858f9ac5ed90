import { defineConfig } from "vite";

// The names of the files hold no hash, so that a rebuild can be compared byte for byte.
export default defineConfig({
  base: "/page/",
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    outDir: "../imgret/server/pages",
    emptyOutDir: false, // the page of the API lies there too
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false,
    rollupOptions: {
      output: {
        entryFileNames: "page.js",
        assetFileNames: "page.[ext]",
        inlineDynamicImports: true,
      },
    },
  },
});
