//! Whole builds against a store of their own. All need root: RUN mounts overlays, COPY makes files of others.

mod cache;
mod cancel;
mod copy;
mod errors;
mod export;
mod harness;
mod instructions;
mod remote;
mod run;
mod stages;
